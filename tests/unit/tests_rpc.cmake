nsic_test(cancel_test SOURCES unit/cancel_test.cc LIBS nsic_base)
nsic_test(channel_test SOURCES unit/channel_test.cc LIBS nsic_rpc)
nsic_test(blob_transfer_test SOURCES unit/blob_transfer_test.cc LIBS nsic_rpc)
nsic_test(video_messages_test SOURCES unit/video_messages_test.cc LIBS nsic_video_messages)
