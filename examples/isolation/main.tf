terraform {
  required_providers {
    anklume = { source = "anklume/anklume" }
  }
}

provider "anklume" {}

variable "image" {
  description = "Image of the containers: a local alias, or images:<name>."
  type        = string
  default     = "images:debian/13"
}

variable "persist_path" {
  description = "Where the rules are kept for the next boot; null = nowhere."
  type        = string
  default     = null
}

locals {
  domains = {
    admin      = { trust_level = "admin", subnet_id = 1, description = "Administers the others" }
    pro        = { trust_level = "trusted", subnet_id = 1, description = "Work" }
    perso      = { trust_level = "semi-trusted", subnet_id = 1, description = "Private life" }
    untrusted  = { trust_level = "untrusted", subnet_id = 1, description = "Whatever comes from outside" }
    disposable = { trust_level = "disposable", subnet_id = 1, description = "Thrown away after use" }
  }

  # Addresses are decided here: the isolation comes before the instances.
  instances = {
    admin-ansible    = { domain = "admin", address = "10.100.1.10" }
    pro-web          = { domain = "pro", address = "10.110.1.10" }
    pro-dev          = { domain = "pro", address = "10.110.1.11" }
    perso-desktop    = { domain = "perso", address = "10.120.1.10" }
    untrusted-mail   = { domain = "untrusted", address = "10.140.1.10" }
    disposable-visit = { domain = "disposable", address = "10.150.1.10" }
  }
}

resource "anklume_domain" "all" {
  for_each = local.domains

  name        = each.key
  description = each.value.description
  trust_level = each.value.trust_level
  subnet_id   = each.value.subnet_id

  nic_filtering = true # nobody takes the address of an endpoint
}

resource "anklume_nft_isolation" "host" {
  domains   = { for name, _ in local.domains : name => null } # null: the bridge net-<name>
  endpoints = { for name in ["pro-web", "untrusted-mail"] : name => local.instances[name] }

  policies = {
    "admin to pro"    = { from = "admin", to = "pro", ports = ["22"], protocol = "tcp", description = "Ansible" }
    "admin to perso"  = { from = "admin", to = "perso", ports = ["22"], protocol = "tcp", description = "Ansible" }
    "perso to web"    = { from = "perso", to = "pro-web", ports = ["80", "443"], protocol = "tcp", description = "The intranet" }
    "perso to mail"   = { from = "perso", to = "untrusted-mail", ports = ["143", "993"], protocol = "tcp" }
    "pro, perso ping" = { from = "pro", to = "perso", protocol = "icmp", bidirectional = true }
  }

  persist_path = var.persist_path
}

resource "anklume_instance" "all" {
  for_each = local.instances

  name              = each.key
  domain            = anklume_domain.all[each.value.domain].name
  image             = var.image
  ipv4_address      = each.value.address
  delete_protection = false

  depends_on = [anklume_nft_isolation.host] # no packet before the rules
}

output "rules" {
  description = "What may pass; known before anything exists."
  value       = anklume_nft_isolation.host.rules
}
