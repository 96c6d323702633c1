# SPDX-License-Identifier: MIT
"""Several images side by side, and what boots of them: real boot loaders, power cuts, images that do not
boot (docs/image-layout.md)."""
