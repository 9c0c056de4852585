# Two compartments: one that holds nothing but a virtual machine for what nobody trusts, one where a virtual machine and a
# container work side by side.
terraform {
  required_providers {
    anklume = { source = "anklume/anklume" }
  }
}

provider "anklume" {}

variable "vm_image" {
  description = "Image of the virtual machines, with the agent and cloud-init inside."
  type        = string
  default     = "images:debian/13/cloud"
}

variable "container_image" {
  description = "Image of the container."
  type        = string
  default     = "images:debian/13"
}

variable "cpu" {
  description = "Processors of a virtual machine; unset, Incus gives it one."
  type        = string
  default     = "2"
}

variable "memory" {
  description = "Memory of a virtual machine; unset, Incus gives it 1GiB."
  type        = string
  default     = "2GiB"
}

variable "csm" {
  description = "Boot by BIOS, for images without UEFI."
  type        = bool
  default     = false
}

variable "agent_timeout" {
  description = "How long a machine may take from running to an agent that answers."
  type        = string
  default     = "60s"
}

variable "note" {
  description = "Changed to show what a running machine takes without a restart."
  type        = string
  default     = "first"
}

locals {
  firmware = var.csm ? { csm = true, secure_boot = false } : { csm = null, secure_boot = null }
}

resource "anklume_domain" "secure" {
  name        = "secure"
  description = "High isolation"
  trust_level = "untrusted"
}

resource "anklume_profile" "vm" {
  name   = "vm-resources"
  domain = anklume_domain.secure.name
  config = { "limits.cpu" = var.cpu, "limits.memory" = var.memory }
}

resource "anklume_instance" "sandbox" {
  name              = "secure-sandbox"
  domain            = anklume_domain.secure.name
  description       = "Untrusted workloads, ${var.note}"
  type              = "vm"
  image             = var.vm_image
  profiles          = ["default", anklume_profile.vm.name]
  csm               = local.firmware.csm
  secure_boot       = local.firmware.secure_boot
  config            = { "user.note" = var.note }
  delete_protection = false

  cloud_init = {
    user_data = <<-EOT
      #cloud-config
      write_files:
        - path: /etc/motd
          content: made by cloud-init
    EOT
  }

  # `incus exec` and Ansible work the moment `apply` ends, and so does what cloud-init was to prepare for them.
  wait     = { boot_timeout = "5m", agent_timeout = var.agent_timeout, cloud_init = true }
  timeouts = { create = "30m" }
}

resource "anklume_domain" "work" {
  name        = "work"
  description = "A container and a virtual machine"
  trust_level = "trusted"
}

resource "anklume_instance" "dev" {
  name              = "work-dev"
  domain            = anklume_domain.work.name
  image             = var.container_image
  delete_protection = false
}

resource "anklume_instance" "work_sandbox" {
  name              = "work-sandbox"
  domain            = anklume_domain.work.name
  type              = "vm"
  image             = var.vm_image
  csm               = local.firmware.csm
  secure_boot       = local.firmware.secure_boot
  config            = { "limits.cpu" = var.cpu, "limits.memory" = var.memory }
  delete_protection = false
  wait              = { boot_timeout = "5m", agent_timeout = var.agent_timeout }
}

output "addresses" {
  description = "The guests' own."
  value       = { for it in [anklume_instance.sandbox, anklume_instance.dev, anklume_instance.work_sandbox] : it.name => it.ipv4_address }
}
