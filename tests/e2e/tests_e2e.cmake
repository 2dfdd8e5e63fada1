# End-to-end tests: Python scripts that start the real programs.
# Debian's own: it has python3-yaml.
find_program(NSIC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

# A worker that says it is of another version, for the test that it is refused.
add_executable(nsic-worker-other-version ${CMAKE_SOURCE_DIR}/worker/main.cc ${CMAKE_SOURCE_DIR}/core/base/program.cc)
target_compile_definitions(nsic-worker-other-version PRIVATE NSIC_VERSION="99.0.0")
target_link_libraries(nsic-worker-other-version PRIVATE nsic_worker nsic_program)

# nsic_e2e_test(faults TIMEOUT 600 [ALONE]): ALONE is for tests that keep every core busy.
function(nsic_e2e_test name)
  cmake_parse_arguments(ARG "ALONE" "TIMEOUT" "" ${ARGN})
  add_test(NAME e2e_${name} COMMAND ${NSIC_PYTHON} -B ${CMAKE_SOURCE_DIR}/tests/e2e/${name}_test.py -v)
  set_tests_properties(e2e_${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT NSIC_BIN=${CMAKE_BINARY_DIR}/bin)
  if(ARG_ALONE)
    set_tests_properties(e2e_${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()

nsic_e2e_test(layers TIMEOUT 120)
nsic_e2e_test(documentation TIMEOUT 60)
nsic_e2e_test(bad_input TIMEOUT 600)
nsic_e2e_test(control TIMEOUT 600)
nsic_e2e_test(bench TIMEOUT 600 ALONE)
nsic_e2e_test(resume TIMEOUT 600)
nsic_e2e_test(quota TIMEOUT 300)
nsic_e2e_test(report TIMEOUT 300)
nsic_e2e_test(judging TIMEOUT 600)
nsic_e2e_test(monitoring TIMEOUT 300)
nsic_e2e_test(video_bad_input TIMEOUT 600)
nsic_e2e_test(video_farm TIMEOUT 1200 ALONE)
nsic_e2e_test(video_matrix TIMEOUT 1500 ALONE)
nsic_e2e_test(faults TIMEOUT 900 ALONE)
nsic_e2e_test(memory TIMEOUT 1200 ALONE)

# Hours rather than minutes: only with tests/run.sh --system.
nsic_e2e_test(soak TIMEOUT 14400 ALONE)
set_tests_properties(e2e_soak PROPERTIES LABELS system)
