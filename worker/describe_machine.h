// What this machine is, as the worker tells the coordinator.
#ifndef NSIC_WORKER_DESCRIBE_MACHINE_H_
#define NSIC_WORKER_DESCRIBE_MACHINE_H_

#include <cstdint>
#include <string>

namespace nsic {

// "host" without a domain; "worker" if the machine has no name.
std::string HostName();

// CPUs that this process may use.
int CoreCount();

// Memory that this process may use, in bytes: the machine's, or less where a control group (a container, a service) limits it.
int64_t MemoryBytes();

// The most memory that this process has had since ResetPeakMemory(), or else since it began, in bytes; 0 where the system does not tell.
int64_t PeakMemoryBytes();
// False where the system does not let it.
bool ResetPeakMemory();

// For a person: "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "NVIDIA GeForce RTX 3060". `device` is resolved: "cpu", "cuda:0".
std::string DeviceName(const std::string& device);

}  // namespace nsic

#endif  // NSIC_WORKER_DESCRIBE_MACHINE_H_
