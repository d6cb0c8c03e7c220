# SPDX-License-Identifier: MIT
node=$(vfio_node $EDU)
timeout -k 5 60 launch $node $OUT/bin/unprivileged >$OUT/unprivileged.out 2>$OUT/unprivileged.err
fact status $?
cat $OUT/unprivileged.out >>$OUT/facts
# A jailer that forgot the limit.
timeout -k 5 60 launch $node $OUT/bin/unprivileged 16 2>$OUT/limited.err
fact limited.status $?
