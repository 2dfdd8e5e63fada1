nsic_test(video_read_test SOURCES unit/video_read_test.cc LIBS nsic_video PkgConfig::FFMPEG TIMEOUT 300)
