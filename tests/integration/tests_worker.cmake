nsic_test(worker_test SOURCES integration/worker_test.cc LIBS nsic_worker PkgConfig::VIPS TIMEOUT 300)
