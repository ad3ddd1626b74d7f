/* The style sheets: see style.h. Eight colours that readers with any colour vision tell apart (after Okabe and Ito, with a second set for dark
 * pages), and eight of one scale from dark blue to yellow for layers by depth. No font is loaded. */
#include "report/style.h"

#define LIGHT                                                                                                                                     \
    "--paper:#fff;--page:#f6f7f9;--ink:#1b2026;--soft:#57616c;--grid:#e3e7eb;--edge:#b9c1c9;"                                                       \
    "--p0:#0067a5;--p1:#c2410c;--p2:#0a7d5a;--p3:#a13d88;--p4:#8a6a00;--p5:#2a8fbd;--p6:#6b4fb3;--p7:#5b636b;"                                       \
    "--q0:#30227a;--q1:#34508f;--q2:#2b6f92;--q3:#1f8a8c;--q4:#2aa37b;--q5:#5fb45c;--q6:#98b93a;--q7:#c2a91d;"                                       \
    "--pass:#0b6b4b;--pass-bg:#d9f2e7;--fail:#a8330a;--fail-bg:#fde4da;--skip:#4c5560;--skip-bg:#e6e9ed;"
#define DARK                                                                                                                                      \
    "--paper:#1a1f25;--page:#12161a;--ink:#e6eaee;--soft:#9ba7b3;--grid:#2b333c;--edge:#55616d;"                                                    \
    "--p0:#5db5f2;--p1:#ff9466;--p2:#3fcf9d;--p3:#e58fce;--p4:#dcbb4a;--p5:#8fdcf5;--p6:#b6a2f2;--p7:#aab4be;"                                       \
    "--q0:#8f86e8;--q1:#7c9cf0;--q2:#5fb3e6;--q3:#4cc7cf;--q4:#56d6a8;--q5:#8be07f;--q6:#c0e45f;--q7:#f2dc55;"                                       \
    "--pass:#7ce0b6;--pass-bg:#12382b;--fail:#ffab87;--fail-bg:#452012;--skip:#b4bec8;--skip-bg:#2b333c;"

const char qt_style_plot[] =
    ":root{" LIGHT "}\n"
    "@media (prefers-color-scheme:dark){:root{" DARK "}}\n"
    "@media print{:root{" LIGHT "--page:#fff}}\n"
    ".c0{--c:var(--p0)}.c1{--c:var(--p1)}.c2{--c:var(--p2)}.c3{--c:var(--p3)}.c4{--c:var(--p4)}.c5{--c:var(--p5)}.c6{--c:var(--p6)}.c7{--c:var(--p7)}\n"
    ".s0{--c:var(--q0)}.s1{--c:var(--q1)}.s2{--c:var(--q2)}.s3{--c:var(--q3)}.s4{--c:var(--q4)}.s5{--c:var(--q5)}.s6{--c:var(--q6)}.s7{--c:var(--q7)}\n"
    ".rest{--c:var(--edge)}\n"
    ".paper{fill:var(--paper)}\n"
    "svg text{font-size:11px;font-variant-numeric:tabular-nums}\n"
    ".tick,.axis{fill:var(--soft)}.name{fill:var(--ink)}.label{fill:var(--c);font-weight:600;paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}.label.rest{fill:var(--soft)}\n"
    ".grid{stroke:var(--grid)}.frame{stroke:var(--edge)}\n"
    ".line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}\n"
    ".thin{fill:none;stroke:var(--c);stroke-width:1;opacity:.4;stroke-linejoin:round}\n"
    ".dash{fill:none;stroke:var(--c);stroke-width:1.2;stroke-dasharray:5 4}\n"
    ".dot{fill:var(--c)}.seed{fill:var(--c);opacity:.45}.ring{fill:var(--paper);stroke:var(--c);stroke-width:1.8}\n"
    ".whisker{stroke:var(--c);stroke-width:1.6}\n"
    ".area{fill:var(--c);opacity:.3}.level{stroke:var(--c);stroke-width:1.4}\n";

const char qt_style_page[] =
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Noto Sans\",sans-serif}\n"
    "main{max-width:1240px;margin:0 auto;padding:1.5rem 1rem 4rem}\n"
    "h1{font-size:1.75rem;line-height:1.2;margin:0 .6rem 0 0;letter-spacing:-.01em}h2{font-size:1.2rem;margin:2.4rem 0 .7rem}\n"
    "h3{font-size:1rem;margin:1.4rem 0 .5rem}p{margin:.4rem 0;max-width:75ch}\n"
    "a{color:var(--p0)}code,pre{font:.86em ui-monospace,\"SF Mono\",Menlo,Consolas,\"Noto Sans Mono\",monospace}\n"
    "pre{background:var(--paper);border:1px solid var(--grid);border-radius:8px;padding:.7rem .9rem;overflow-x:auto;margin:.5rem 0}\n"
    "code{overflow-wrap:anywhere}.soft{color:var(--soft)}.small{font-size:.86rem}\n"
    ".top{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .4rem}\n"
    ".badge{display:inline-block;border-radius:99px;padding:.1rem .7rem;font-weight:650;font-size:.85rem;white-space:nowrap}\n"
    ".pass{color:var(--pass);background:var(--pass-bg)}.fail{color:var(--fail);background:var(--fail-bg)}.skip{color:var(--skip);background:var(--skip-bg)}\n"
    "nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.8rem 0 0;font-size:.9rem}\n"
    ".card,.box,details{background:var(--paper);border:1px solid var(--grid);border-radius:10px}\n"
    ".claims{list-style:none;padding:0;margin:1rem 0}\n"
    ".claims li{display:grid;grid-template-columns:5rem 1fr;gap:.1rem .6rem;align-items:start;justify-items:start;padding:.55rem .2rem;border-top:1px solid var(--grid)}\n"
    ".claims .numbers{color:var(--soft);font-size:.86rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\n"
    ".box{overflow-x:auto;max-width:100%;margin:.5rem 0}\n"
    "table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.38rem .7rem;text-align:right;white-space:nowrap;border-top:1px solid var(--grid)}\n"
    "thead th,tbody:first-child tr:first-child>*{border-top:0}thead th{color:var(--soft);font-weight:600;vertical-align:bottom}\n"
    "th:first-child,td:first-child,.left{text-align:left}td.wrap{white-space:normal;min-width:16rem;text-align:left;overflow-wrap:anywhere}\n"
    "td.bar{background:linear-gradient(90deg,color-mix(in srgb,var(--p0) 24%,transparent) var(--v),transparent var(--v))}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:.8rem;align-items:start}\n"
    "figure{margin:0;padding:.7rem .8rem .4rem;background:var(--paper);border:1px solid var(--grid);border-radius:10px;min-width:0}\n"
    "figcaption{font-weight:600;font-size:.9rem;margin-bottom:.25rem;overflow-wrap:anywhere}figcaption span{font-weight:400;color:var(--soft)}\n"
    "svg.plot{display:block;width:100%;height:auto}\n"
    "details{margin:.7rem 0;padding:0 .9rem}summary{cursor:pointer;font-weight:600;padding:.55rem 0}details>:last-child{margin-bottom:.9rem}\n"
    "details figure,details .box{border-color:var(--grid)}\n"
    ".notes{border-left:4px solid var(--p4);padding:.1rem 0 .1rem .9rem;margin:1rem 0}.notes ul{margin:.3rem 0;padding-left:1.1rem}\n"
    ".cards{columns:350px;column-gap:1rem;margin-top:1.2rem}\n"
    ".card{padding:1rem 1.1rem;margin-bottom:1rem;break-inside:avoid}.card h2{margin:0 .3rem 0 0;font-size:1.05rem}.card p{margin:.2rem 0}\n"
    ".card .plot{margin:.4rem 0}.card .foot{font-size:.85rem}\n"
    "article+article{border-top:1px solid var(--edge);margin-top:3rem;padding-top:1.5rem}\n"
    "@media (max-width:600px){main{padding:1rem .75rem 3rem}h1{font-size:1.4rem}.claims li{grid-template-columns:1fr}}\n"
    "@media print{body{font-size:10.5pt}main{max-width:none;padding:0}nav{display:none}.box{overflow:visible}table{font-size:8.5pt}\n"
    "figure,tr,.card,li{break-inside:avoid}h2,h3,summary{break-after:avoid}details::details-content{content-visibility:visible;block-size:auto}}\n";
