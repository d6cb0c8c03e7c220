# SPDX-License-Identifier: MIT
# tenon_library(NAME DESCRIPTION text SOURCES file... KERNEL file [NEEDS library] [LIBRARIES name...]): an installed library of this tree,
# which needs another of this tree, and libraries of the system, by the names that the linker knows. Their headers are no business of who uses it.
#
# Its objects are compiled once and make NAME (static) and NAME-shared, which appear to others as Tenon::NAME-static and Tenon::NAME.
# It exports what NAME's map lists (lib<NAME>.map beside the sources) and nothing else, in either form: the static library is
# one object whose other symbols are local, so that an embedder may have a config_read() of its own.
#
# KERNEL is the one source that calls the kernel. NAME-without-kernel is for tests, which stand in for it.
function(tenon_library name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "DESCRIPTION;KERNEL;NEEDS" "SOURCES;LIBRARIES")
	set(map ${CMAKE_CURRENT_SOURCE_DIR}/lib${name}.map)

	add_library(${name}-objects OBJECT ${arg_SOURCES})
	add_library(${name}-kernel OBJECT ${arg_KERNEL})
	foreach(part ${name}-objects ${name}-kernel)
		target_include_directories(${part} PRIVATE include)
		target_compile_definitions(${part} PRIVATE TENON_VERSION="${PROJECT_VERSION}")
		target_link_libraries(${part} PRIVATE ${arg_NEEDS} Threads::Threads)
	endforeach()
	set(objects $<TARGET_OBJECTS:${name}-objects> $<TARGET_OBJECTS:${name}-kernel>)

	set(whole ${CMAKE_CURRENT_BINARY_DIR}/lib${name}.o)
	add_custom_command(OUTPUT ${whole} DEPENDS ${objects} COMMAND_EXPAND_LISTS VERBATIM
		COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o ${whole} ${objects}
		COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${whole})
	add_library(${name} STATIC ${whole})
	set_target_properties(${name} PROPERTIES LINKER_LANGUAGE C EXPORT_NAME ${name}-static)

	add_library(${name}-shared SHARED ${objects})
	set_target_properties(${name}-shared PROPERTIES LINKER_LANGUAGE C OUTPUT_NAME ${name} EXPORT_NAME ${name}
		VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${map})
	target_link_options(${name}-shared PRIVATE -Wl,--version-script=${map} -Wl,-Bsymbolic-functions)
	if(NOT TENON_SANITIZE) # the sanitizers' functions come from the program
		target_link_options(${name}-shared PRIVATE -Wl,--no-undefined)
	endif()

	foreach(library ${name} ${name}-shared)
		target_include_directories(${library} INTERFACE
			$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
	endforeach()
	target_link_libraries(${name} INTERFACE ${arg_NEEDS} ${arg_LIBRARIES} Threads::Threads)
	target_link_libraries(${name}-shared PRIVATE ${arg_LIBRARIES} Threads::Threads)
	if(arg_NEEDS)
		target_link_libraries(${name}-shared PUBLIC ${arg_NEEDS}-shared)
	endif()
	add_library(Tenon::${name} ALIAS ${name}-shared)
	add_library(Tenon::${name}-static ALIAS ${name})

	install(TARGETS ${name} ${name}-shared EXPORT TenonTargets)
	install(DIRECTORY include/ TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
	tenon_install_pc(lib${name} "${arg_DESCRIPTION}" ${name} "${arg_NEEDS}" "${arg_LIBRARIES}")

	if(TENON_TESTS)
		add_library(${name}-without-kernel STATIC $<TARGET_OBJECTS:${name}-objects>)
		target_include_directories(${name}-without-kernel PUBLIC include ${CMAKE_CURRENT_SOURCE_DIR})
		target_link_libraries(${name}-without-kernel PUBLIC ${arg_NEEDS} ${arg_LIBRARIES} Threads::Threads)
		set_target_properties(${name}-without-kernel PROPERTIES LINKER_LANGUAGE C)
	endif()
endfunction()

# Written when it is installed, because only then the prefix is known for sure (cmake --install --prefix).
function(tenon_install_pc pc description library needs libraries)
	list(TRANSFORM libraries REPLACE "(.+)" "-l\\1 " OUTPUT_VARIABLE private)
	string(JOIN "" private ${private})
	set(requires)
	if(needs)
		set(requires "Requires: lib${needs} = ${PROJECT_VERSION}\n")
	endif()
	install(CODE "
		get_filename_component(libdir \"${CMAKE_INSTALL_LIBDIR}\" ABSOLUTE BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
		get_filename_component(includedir \"${CMAKE_INSTALL_INCLUDEDIR}\" ABSOLUTE BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
		file(WRITE \"${CMAKE_CURRENT_BINARY_DIR}/${pc}.pc\"
\"prefix=\${CMAKE_INSTALL_PREFIX}
libdir=\${libdir}
includedir=\${includedir}

Name: ${pc}
Description: ${description}
Version: ${PROJECT_VERSION}
${requires}Cflags: -I\\\${includedir}
Libs: -L\\\${libdir} -l${library}
Libs.private: ${private}-pthread
\")
		file(INSTALL \"${CMAKE_CURRENT_BINARY_DIR}/${pc}.pc\" DESTINATION \"\${libdir}/pkgconfig\")")
endfunction()

# What both libraries and the program share: the CMake package and the manual pages, whose section is their suffix.
function(tenon_install_package)
	include(CMakePackageConfigHelpers)
	set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Tenon)
	write_basic_package_version_file(${CMAKE_BINARY_DIR}/TenonConfigVersion.cmake COMPATIBILITY SameMinorVersion)
	install(FILES ${CMAKE_SOURCE_DIR}/cmake/TenonConfig.cmake ${CMAKE_BINARY_DIR}/TenonConfigVersion.cmake DESTINATION ${package})
	install(EXPORT TenonTargets NAMESPACE Tenon:: DESTINATION ${package})
	foreach(section RANGE 1 8)
		file(GLOB pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/*.${section})
		install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
	endforeach()
endfunction()
