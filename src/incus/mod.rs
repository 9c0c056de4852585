//! The Incus API: requests, operations, events, waits. Knows nothing of Terraform.
