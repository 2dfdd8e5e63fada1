nsic_test(media_test SOURCES unit/media_test.cc unit/media_finish_test.cc unit/jpeg_tables_test.cc LIBS nsic_media PkgConfig::VIPS TIMEOUT 300)
nsic_test(media_rows_test SOURCES unit/media_rows_test.cc LIBS nsic_media)
