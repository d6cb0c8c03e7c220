# SPDX-License-Identifier: MIT
exit_vm 42
sleep 5
echo "the exit device ended nothing"
