variable "name" {
  description = "Of the cluster, and the beginning of all other names"
  type        = string
  default     = "goku"
}

variable "region" {
  description = "With the machines that pools.json names"
  type        = string
}

variable "zones" {
  description = "Two availability zones; machines with GPUs stand in the first, where their reservation is"
  type        = list(string)
  validation {
    condition     = length(var.zones) == 2
    error_message = "Two zones: the cluster's own API and the database want two."
  }
}

variable "network" {
  description = "Addresses of the whole network; policies in infra/kubernetes name the same"
  type        = string
  default     = "10.0.0.0/16"
}

variable "reservations" {
  description = "Capacity reservation by pool of pools.json; a pool that is not spot and not named here takes machines on demand"
  type        = map(string)
  default     = {}
}

variable "operators" {
  description = "Networks that may reach the cluster's API from outside; none: only from inside the network"
  type        = list(string)
  default     = []
}

variable "workspace_gibibytes" {
  description = "Size of the shared file system"
  type        = number
  default     = 12000
  validation {
    condition     = var.workspace_gibibytes % 2400 == 0
    error_message = "Lustre comes in steps of 2400 GiB."
  }
}

locals {
  # One list for the node pools here, the queues of Kueue and the tests that compare them.
  pools = jsondecode(file("${path.module}/pools.json"))
}
