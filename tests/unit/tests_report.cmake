nsic_test(report_test SOURCES unit/report_test.cc LIBS nsic_report nlohmann_json::nlohmann_json)
