"""The networks of bench/recipes/*.yaml in PyTorch: MLP, ResNet-8, ResNet-20 and a Llama, each in fp32, LSQ W4A4 (first and last layer 8 bits) and
BitNet b1.58 (ternary weights, 8-bit activations a token; the MLP with an RMSNorm before each layer).

Parameters have the names that they have in qtape's checkpoints, but for steps, which are called fc1.weight.scale there and
fc1.weight_q.scale here (params_of). There are several ways to write the same quantizer in PyTorch, called forms here; the benchmark counts
the fastest:

    ops       a composition of PyTorch's operations, with detach() for the straight-through estimator
    function  torch.autograd.Function with a backward of its own, as few passes over memory as can be written
    fused     PyTorch's own operator of learned steps (LSQ only). It is near to LSQ but not the same: it multiplies by 1/s, and lets the
              gradient through where the rounded number is inside, not the number. Only on demand

Each may be laid out with channels last ("nhwc") and compiled, where this PyTorch has torch.compile."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


# ---- quantizers ---------------------------------------------------------------------------------------------------------------------

class LsqFunction(torch.autograd.Function):
    """y = clamp(round(u), n, p) s, u = x/s; the gradient stops outside, and ds = g sum dy (round(u) - u inside, n or p outside)."""

    @staticmethod
    def forward(ctx, x, s, n, p, g):
        u = x / s
        q = u.clamp(n, p).round_()
        ctx.save_for_backward(u, q)
        ctx.bounds = n, p, g
        return q * s

    @staticmethod
    def backward(ctx, dy):
        u, q = ctx.saved_tensors
        n, p, g = ctx.bounds
        inside = (u > n) & (u < p)
        ds = (dy * (q - u * inside)).sum().mul_(g).reshape(1)
        return dy * inside if ctx.needs_input_grad[0] else None, ds, None, None, None


def lsq_ops(x, s, n, p, g):
    s = (s - s * g).detach() + s * g  # the value of s, g times its gradient
    u = (x / s).clamp(n, p)
    return ((u.round() - u).detach() + u) * s


class Lsq(nn.Module):
    def __init__(self, form, bits, signed, is_weight):
        super().__init__()
        self.n, self.p = (-2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2 ** bits - 1)
        self.form, self.is_weight, self.started = form, is_weight, False
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("zero", torch.zeros(1), persistent=False)

    def start(self, x):
        self.scale.data.fill_(2 * x.detach().abs().mean().item() / math.sqrt(self.p))
        self.started = True

    def forward(self, x):
        if not self.started:
            self.start(x)
        g = 1 / math.sqrt((x.numel() if self.is_weight else x.numel() // x.shape[0]) * self.p)
        if self.form == "fused":
            return torch._fake_quantize_learnable_per_tensor_affine(x, self.scale, self.zero, self.n, self.p, g)
        return (LsqFunction.apply if self.form == "function" else lsq_ops)(x, self.scale, self.n, self.p, g)


def ternary(w):
    s = w.abs().mean().clamp_min(1e-5)
    return (w / s).round_().clamp_(-1, 1).mul_(s)


def int8(x):
    dim = -1 if x.dim() == 3 else tuple(range(1, x.dim()))  # a token: the row of a sequence, an image
    s = x.abs().amax(dim=dim, keepdim=True).clamp_min(1e-5) / 127
    return (x / s).round_().clamp_(-128, 127).mul_(s)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, quantize):
        return quantize(x)

    @staticmethod
    def backward(ctx, dy):
        return dy, None


class Through(nn.Module):
    """quantize(x) forward, the identity backward."""

    def __init__(self, form, quantize):
        super().__init__()
        self.form, self.quantize = form, quantize

    def forward(self, x):
        if self.form == "function":
            return Straight.apply(x, self.quantize)
        with torch.no_grad():
            y = self.quantize(x) - x
        return x + y


# ---- layers -------------------------------------------------------------------------------------------------------------------------

def quantized(layer, arm, form, bits):
    """The layer with quantizers of its weight and input."""
    if arm == "lsq-w4a4":
        layer.weight_q, layer.input_q = Lsq(form, bits, True, True), Lsq(form, bits, False, False)
    elif arm == "ternary":
        layer.weight_q, layer.input_q = Through(form, ternary), Through(form, int8)
    else:
        layer.weight_q, layer.input_q = nn.Identity(), nn.Identity()
    return layer


class Linear(nn.Linear):
    def forward(self, x):
        return F.linear(self.input_q(x), self.weight_q(self.weight), self.bias)


class Conv(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(self.input_q(x), self.weight_q(self.weight), None, self.stride, self.padding)


class RmsNorm(nn.Module):
    def __init__(self, n, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


# ---- networks -----------------------------------------------------------------------------------------------------------------------

class Mlp(nn.Module):
    def __init__(self, arm, form, widths=(784, 512, 512, 10)):
        super().__init__()
        self.normed = arm in ("ternary", "fp32-norm")
        self.depth = len(widths) - 1
        for i in range(1, self.depth + 1):
            bits = 8 if i in (1, self.depth) else 4
            setattr(self, "fc%d" % i, quantized(Linear(widths[i - 1], widths[i], not self.normed), arm, form, bits))
            if self.normed:
                setattr(self, "rms_norm%d" % i, RmsNorm(widths[i - 1]))

    def forward(self, x):
        x = x.flatten(1)
        for i in range(1, self.depth + 1):
            if self.normed:
                x = getattr(self, "rms_norm%d" % i)(x)
            x = getattr(self, "fc%d" % i)(x)
            if i < self.depth:
                x = F.relu(x, inplace=True)
        return x


class Block(nn.Module):
    """Two 3x3 convolutions and the way past them, which is a 1x1 convolution where the shape changes."""

    def __init__(self, conv, cin, cout, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, cout, 3, stride), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = conv(cout, cout, 3, 1), nn.BatchNorm2d(cout)
        self.shortcut, self.bn3 = (conv(cin, cout, 1, stride), nn.BatchNorm2d(cout)) if cin != cout else (None, None)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + (self.bn3(self.shortcut(x)) if self.shortcut is not None else x), inplace=True)


class ResNet(nn.Module):
    """stem, stages s1 to s3 of `blocks` blocks each, average, head."""

    def __init__(self, arm, form, blocks):
        super().__init__()

        def conv(cin, cout, kernel, stride, bits=4):
            return quantized(Conv(cin, cout, kernel, stride, kernel // 2, bias=False), arm, form, bits)

        self.stem, self.batch_norm1 = conv(1, 16, 3, 1, 8), nn.BatchNorm2d(16)
        for s, (cin, cout) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            stage = [Block(conv, cin, cout, 1 if s == 1 else 2)] + [Block(conv, cout, cout, 1) for _ in range(blocks - 1)]
            setattr(self, "s%d" % s, stage[0] if blocks == 1 else nn.Sequential(*stage))
        self.head = quantized(Linear(64, 10), arm, form, 8)

    def forward(self, x):
        x = F.relu(self.batch_norm1(self.stem(x)), inplace=True)
        return self.head(self.s3(self.s2(self.s1(x))).mean((2, 3)))


class LlamaBlock(nn.Module):
    """x += attn_output(attention(attn_norm(x))); x += ffn_down(silu(ffn_gate h) * ffn_up h), h = ffn_norm(x)."""

    def __init__(self, d, heads, ff, linear):
        super().__init__()
        self.heads = heads
        self.attn_norm, self.ffn_norm = RmsNorm(d), RmsNorm(d)
        for name, cin, cout in (("attn_q", d, d), ("attn_k", d, d), ("attn_v", d, d), ("attn_output", d, d), ("ffn_gate", d, ff), ("ffn_up", d, ff),
                                ("ffn_down", ff, d)):
            setattr(self, name, linear(cin, cout))

    def attention(self, x, turn, mask):
        B, T, d = x.shape
        q, k, v = (layer(x).view(B, T, self.heads, d // self.heads).transpose(1, 2) for layer in (self.attn_q, self.attn_k, self.attn_v))
        q, k = turn(q), turn(k)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = (q @ k.transpose(-1, -2) / math.sqrt(d // self.heads) + mask).softmax(-1) @ v
        return self.attn_output(y.transpose(1, 2).reshape(B, T, d))

    def forward(self, x, turn, mask):
        x = x + self.attention(self.attn_norm(x), turn, mask)
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    """The language model of bench/recipes/llama.yaml; the blocks' matrices are quantized."""

    def __init__(self, arm, form, vocab=512, d=128, layers=4, heads=4, ff=384, T=128):
        super().__init__()
        self.token_embd = nn.Embedding(vocab, d)
        self.blk = nn.ModuleList(LlamaBlock(d, heads, ff, lambda cin, cout: quantized(Linear(cin, cout, False), arm, form, 4)) for _ in range(layers))
        self.output_norm, self.output = RmsNorm(d), nn.Linear(d, vocab, False)
        D = d // heads
        angle = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, D, 2) / D)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.register_buffer("mask", torch.full((T, T), -math.inf).triu(1), persistent=False)

    def turn(self, x):
        """Rotary positions on neighbouring pairs."""
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * self.cos - b * self.sin, a * self.sin + b * self.cos), -1).flatten(-2)

    def forward(self, ids):
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, self.turn, self.mask)
        return self.output(self.output_norm(x))


def build(net, arm, form):
    """form: eager (fp32), function, ops or fused."""
    if net == "llama":
        return Llama(arm, form)
    return Mlp(arm, form) if net == "mlp" else ResNet(arm, form, 1 if net == "resnet8" else 3)


def optimizer(net, name):
    """As the recipes have it; fused, where this PyTorch has that for the CPU."""
    make = {"sgd": lambda **k: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, **k),
            "adam": lambda **k: torch.optim.Adam(net.parameters(), lr=1e-3, **k)}[name]
    if tuple(int(v) for v in torch.__version__.split(".")[:2]) >= (2, 4):
        return make(fused=True)
    return make()


def step(net, optim, x, y):
    optim.zero_grad(set_to_none=True)
    loss = F.cross_entropy(net(x).flatten(0, -2), y.flatten())
    loss.backward()
    optim.step()
    return loss


# ---- qtape's checkpoints ------------------------------------------------------------------------------------------------------------

def params_of(net):
    """Name in a checkpoint -> tensor."""
    found = {}
    blocks = isinstance(net, ResNet) and isinstance(net.s1, nn.Sequential)
    for name, t in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        name = name.replace("weight_q.", "weight.").replace("input_q.", "input.")
        if blocks and name[0] == "s" and name[1].isdigit():
            stage, block, rest = name.split(".", 2)
            name = "%s.b%s.%s" % (stage, block, rest)
        found[name] = t
    return found


def load(net, values):
    """values: name -> array, all parameters of a checkpoint. Nothing may be missing on either side."""
    params = params_of(net)
    given = {k: v for k, v in values.items() if not k.endswith(".initialized")}
    if set(params) != set(given):
        raise SystemExit("parameters differ: only in PyTorch %s; only in qtape %s" % (sorted(set(params) - set(given)), sorted(set(given) - set(params))))
    for name, t in params.items():
        t.copy_(torch.from_numpy(given[name]).reshape(t.shape))
    for m in net.modules():
        if isinstance(m, Lsq):
            m.started = True
