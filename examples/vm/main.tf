terraform {
  required_providers {
    anklume = { source = "anklume/anklume" }
  }
}

provider "anklume" {}

variable "vm_image" {
  description = "Image of the virtual machine, with the agent inside: those of `images:` have it."
  type        = string
  default     = "images:debian/13/cloud"
}

variable "container_image" {
  description = "Image of the container beside it."
  type        = string
  default     = "images:debian/13"
}

variable "csm" {
  description = "Boot by BIOS, for images without UEFI."
  type        = bool
  default     = false
}

variable "agent_timeout" {
  description = "How long the machine may take from running to an agent that answers."
  type        = string
  default     = "60s"
}

variable "note" {
  description = "Changed to show what a running machine takes without a restart."
  type        = string
  default     = "first"
}

resource "anklume_domain" "lab" {
  name        = "lab"
  description = "A virtual machine beside a container"
}

resource "anklume_instance" "vm" {
  name              = "lab-vm"
  domain            = anklume_domain.lab.name
  type              = "vm"
  image             = var.vm_image
  description       = "A virtual machine, ${var.note}"
  csm               = var.csm ? true : null
  secure_boot       = var.csm ? false : null
  config            = { "limits.memory" = "512MiB", "user.note" = var.note }
  delete_protection = false

  cloud_init = {
    user_data = <<-EOT
      #cloud-config
      write_files:
        - path: /etc/motd
          content: made by cloud-init
    EOT
  }

  # `incus exec` and Ansible work the moment `apply` ends.
  wait     = { boot_timeout = "5m", agent_timeout = var.agent_timeout, cloud_init = true }
  timeouts = { create = "30m" }
}

resource "anklume_instance" "box" {
  name              = "lab-box"
  domain            = anklume_domain.lab.name
  image             = var.container_image
  delete_protection = false
}

output "addresses" {
  description = "The guests' own."
  value       = { for it in [anklume_instance.vm, anklume_instance.box] : it.name => it.ipv4_address }
}
