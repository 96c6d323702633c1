# SPDX-License-Identifier: MIT
"""The room of the virtual machines: images, kernels, the launcher, load from outside, the demo."""
