# SPDX-License-Identifier: MIT
"""`make matrix`: molt as PID 1 on each architecture, kernel and kind of root. See docs/matrix.md."""
