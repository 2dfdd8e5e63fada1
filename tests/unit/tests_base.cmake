nsic_test(base_test SOURCES unit/status_test.cc unit/digest_test.cc unit/files_test.cc unit/concurrency_test.cc LIBS nsic_base)
nsic_test(program_test SOURCES unit/program_test.cc LIBS nsic_program)
