"""RNN, LSTM and GRU with back-propagation through time written out.

All take x (T, N, D) and the first state (N, H), return the states of all steps (T, N, H), and get dy of all of them. Backward walks from
the last step to the first: δ is what a step gets from its own output and from the step after it.
"""

from __future__ import annotations

import numpy as np

from .layer import Layer, sigmoid


class RNN(Layer):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Framework: ``tg.nn.RNN``.

    weight_ih: (H, D). weight_hh: (H, H). bias_ih, bias_hh: (H,).
    Backward: δ_t = (dy_t + W_hhᵀ δ_{t+1}) ∘ (1 - h_t²); ∂E/∂W_ih = Σ δ_t x_tᵀ, ∂E/∂W_hh = Σ δ_t h_{t-1}ᵀ, ∂E/∂b = Σ δ_t.
    """

    def __init__(self, weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray) -> None:
        super().__init__(weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)

    def forward(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        p = self.params
        self.x, self.states = x, [h]
        for x_t in x:
            h = np.tanh(x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"])
            self.states.append(h)
        return np.stack(self.states[1:])

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = self.params
        self.grads = {name: np.zeros_like(value) for name, value in p.items()}
        dx, dh = np.zeros_like(self.x), np.zeros_like(self.states[0])
        for t in reversed(range(len(dy))):
            delta = (dy[t] + dh) * (1 - self.states[t + 1] ** 2)
            self.grads["weight_ih"] += delta.T @ self.x[t]
            self.grads["weight_hh"] += delta.T @ self.states[t]
            self.grads["bias_ih"] += delta.sum(axis=0)
            self.grads["bias_hh"] += delta.sum(axis=0)
            dx[t] = delta @ p["weight_ih"]
            dh = delta @ p["weight_hh"]
        return dx, dh


class LSTM(Layer):
    """c_t = f ∘ c_{t-1} + i ∘ g, h_t = o ∘ tanh(c_t); i, f, o are sigmoids and g a tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
    (Hochreiter and Schmidhuber 1997). Framework: ``tg.nn.LSTM``.

    weight_ih: (4H, D) in the order i, f, g, o. weight_hh: (4H, H). bias_ih, bias_hh: (4H,).
    Backward: with δh from the output and the next step, δc_t = δh ∘ o ∘ (1 - tanh² c_t) + f_{t+1} ∘ δc_{t+1}; the gates' parts follow by the
    product rule, times σ' = σ (1 - σ) and tanh' = 1 - tanh².
    """

    def __init__(self, weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray) -> None:
        super().__init__(weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)

    def forward(self, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> np.ndarray:
        p = self.params
        self.x, self.hs, self.cs, self.gates = x, [h], [c], []
        for x_t in x:
            made = x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
            i, f, g, o = np.split(made, 4, axis=1)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            c = f * c + i * g
            h = o * np.tanh(c)
            self.gates.append((i, f, g, o))
            self.hs.append(h)
            self.cs.append(c)
        return np.stack(self.hs[1:])

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = self.params
        self.grads = {name: np.zeros_like(value) for name, value in p.items()}
        dx, dh, dc = np.zeros_like(self.x), np.zeros_like(self.hs[0]), np.zeros_like(self.cs[0])
        for t in reversed(range(len(dy))):
            i, f, g, o = self.gates[t]
            squashed = np.tanh(self.cs[t + 1])
            dh = dh + dy[t]
            dc = dc + dh * o * (1 - squashed**2)
            parts = (
                dc * g * i * (1 - i),
                dc * self.cs[t] * f * (1 - f),
                dc * i * (1 - g**2),
                dh * squashed * o * (1 - o),
            )
            delta = np.concatenate(parts, axis=1)
            self.grads["weight_ih"] += delta.T @ self.x[t]
            self.grads["weight_hh"] += delta.T @ self.hs[t]
            self.grads["bias_ih"] += delta.sum(axis=0)
            self.grads["bias_hh"] += delta.sum(axis=0)
            dx[t] = delta @ p["weight_ih"]
            dh = delta @ p["weight_hh"]
            dc = dc * f
        return dx, dh, dc


class GRU(Layer):
    """h_t = (1 - z) ∘ n + z ∘ h_{t-1}; r, z are sigmoids of W x_t + b + W h_{t-1} + b, and n = tanh(W x_t + b + r ∘ (W h_{t-1} + b))
    (Cho et al. 2014, in the form of PyTorch and cuDNN). Framework: ``tg.nn.GRU``.

    weight_ih: (3H, D) in the order r, z, n. weight_hh: (3H, H). bias_ih, bias_hh: (3H,).
    """

    def __init__(self, weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray) -> None:
        super().__init__(weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)

    def forward(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        p = self.params
        self.x, self.states, self.gates = x, [h], []
        for x_t in x:
            from_x = np.split(x_t @ p["weight_ih"].T + p["bias_ih"], 3, axis=1)
            from_h = np.split(h @ p["weight_hh"].T + p["bias_hh"], 3, axis=1)
            r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
            n = np.tanh(from_x[2] + r * from_h[2])
            h = (1 - z) * n + z * h
            self.gates.append((r, z, n, from_h[2]))
            self.states.append(h)
        return np.stack(self.states[1:])

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = self.params
        self.grads = {name: np.zeros_like(value) for name, value in p.items()}
        dx, dh = np.zeros_like(self.x), np.zeros_like(self.states[0])
        for t in reversed(range(len(dy))):
            r, z, n, candidate = self.gates[t]
            dh = dh + dy[t]
            dn = dh * (1 - z) * (1 - n**2)
            dz = dh * (self.states[t] - n) * z * (1 - z)
            dr = dn * candidate * r * (1 - r)
            of_x = np.concatenate([dr, dz, dn], axis=1)
            of_h = np.concatenate([dr, dz, dn * r], axis=1)  # the state's part of n passes through the reset gate
            self.grads["weight_ih"] += of_x.T @ self.x[t]
            self.grads["weight_hh"] += of_h.T @ self.states[t]
            self.grads["bias_ih"] += of_x.sum(axis=0)
            self.grads["bias_hh"] += of_h.sum(axis=0)
            dx[t] = of_x @ p["weight_ih"]
            dh = dh * z + of_h @ p["weight_hh"]
        return dx, dh
