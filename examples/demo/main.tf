terraform {
  required_providers {
    anklume = { source = "anklume/anklume" }
  }
}

provider "anklume" {}

variable "image" {
  description = "Image of the four containers: a local alias, or images:<name>."
  type        = string
  default     = "busybox"
}

variable "isolation" {
  description = "Whether the rules between the domains are loaded; false where nft does not run on the host of Incus."
  type        = bool
  default     = true
}

variable "vm_image" {
  description = "Image of a virtual machine beside them; unset = none."
  type        = string
  default     = null
}

variable "csm" {
  description = "Boot it by BIOS, for images without UEFI."
  type        = bool
  default     = false
}

variable "agent_timeout" {
  description = "How long it may take from running to an agent that answers."
  type        = string
  default     = "60s"
}

variable "note" {
  description = "Changed by the demo to show an update in place."
  type        = string
  default     = "first"
}

resource "anklume_domain" "pro" {
  name        = "pro"
  description = "Work"
  trust_level = "trusted"
}

resource "anklume_domain" "perso" {
  name        = "perso"
  description = "Private life"
  trust_level = "untrusted"
}

resource "anklume_nft_isolation" "host" {
  count = var.isolation ? 1 : 0

  domains = { for d in [anklume_domain.pro, anklume_domain.perso] : d.name => d.bridge }

  endpoints = {
    pro-web = { domain = anklume_domain.pro.name, address = cidrhost("${anklume_domain.pro.gateway}/24", 10) }
  }

  policies = {
    intranet = { from = "perso", to = "pro-web", ports = ["80"], protocol = "tcp" }
  }
}

resource "anklume_profile" "small" {
  name   = "small"
  domain = anklume_domain.pro.name
  config = { "limits.cpu" = "1", "limits.memory" = "128MiB" }
}

resource "anklume_instance" "pro" {
  for_each = {
    pro-web = cidrhost("${anklume_domain.pro.gateway}/24", 10)
    pro-dev = null # DHCP
  }

  name              = each.key
  domain            = anklume_domain.pro.name
  description       = "${each.key}, ${var.note}"
  image             = var.image
  profiles          = ["default", anklume_profile.small.name]
  ipv4_address      = each.value
  delete_protection = false

  depends_on = [anklume_nft_isolation.host] # no packet before the rules
}

resource "anklume_instance" "perso" {
  for_each = {
    perso-mail = cidrhost("${anklume_domain.perso.gateway}/24", 20)
    perso-play = null # DHCP
  }

  name              = each.key
  domain            = anklume_domain.perso.name
  image             = var.image
  ipv4_address      = each.value
  delete_protection = false

  depends_on = [anklume_nft_isolation.host] # no packet before the rules
}

resource "anklume_instance" "sandbox" {
  count = var.vm_image == null ? 0 : 1

  name              = "pro-sandbox"
  domain            = anklume_domain.pro.name
  description       = "What has to be kept away from the host's kernel, ${var.note}"
  type              = "vm"
  image             = var.vm_image
  csm               = var.csm ? true : null
  secure_boot       = var.csm ? false : null
  config            = { "limits.memory" = "512MiB" }
  delete_protection = false
  stop_timeout      = "5s"
  wait              = { boot_timeout = "5m", agent_timeout = var.agent_timeout }
}

output "addresses" {
  description = "Where each answers."
  value = {
    for name, it in merge(anklume_instance.pro, anklume_instance.perso, { for it in anklume_instance.sandbox : it.name => it }) :
    name => it.ipv4_address
  }
}
