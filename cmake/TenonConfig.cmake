# SPDX-License-Identifier: MIT
# find_package(Tenon): Tenon::tenon (shared) and Tenon::tenon-static, the library; Tenon::tenon-kvm and Tenon::tenon-kvm-static,
# the KVM layer with the library's host operations on it; Tenon::tenon-migration and Tenon::tenon-migration-static, live migration.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/TenonTargets.cmake)
