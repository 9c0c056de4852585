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

  lifecycle {
    create_before_destroy = true
  }
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

output "addresses" {
  description = "Where each container answers."
  value       = { for name, it in merge(anklume_instance.pro, anklume_instance.perso) : name => it.ipv4_address }
}
