nsic_test(quality_test SOURCES unit/quality_test.cc LIBS nsic_quality)
