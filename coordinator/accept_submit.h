// Makes a job of what a client submits.
#ifndef NSIC_COORDINATOR_ACCEPT_SUBMIT_H_
#define NSIC_COORDINATOR_ACCEPT_SUBMIT_H_

#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

// See jobs.proto. Work whose result is stored already is done at once, without its source.
Result<v1::Job> AcceptSubmit(const Farm& farm, const v1::SubmitRequest& request);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_ACCEPT_SUBMIT_H_
