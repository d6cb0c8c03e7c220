# SPDX-License-Identifier: MIT
tenon_linux guest --exit-device
true
