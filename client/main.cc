// nsic-client: sends pictures to a farm and brings the restored ones home.
#include "client/session.h"

int main(int argc, char** argv) { return nsic::RunClient(argc, argv); }
