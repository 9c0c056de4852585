variable "image" {
  description = "Alias or fingerprint of an image, or an image server's name, a colon and an alias."
  type        = string
  default     = "images:debian/13"
}

resource "anklume_domain" "pro" {
  name          = "pro"
  trust_level   = "trusted"
  subnet_id     = 4
  nic_filtering = true # nobody takes the address of an endpoint
}

resource "anklume_domain" "perso" {
  name      = "perso"
  subnet_id = 4
}

locals {
  web = "10.110.4.10" # written here: the isolation comes before the instance
}

resource "anklume_nft_isolation" "host" {
  domains = { for d in [anklume_domain.pro, anklume_domain.perso] : d.name => d.bridge }

  endpoints = {
    web = { domain = anklume_domain.pro.name, address = local.web }
  }

  policies = {
    intranet = { from = "perso", to = "web", ports = ["80", "443"], protocol = "tcp" }
    ping     = { from = "pro", to = "perso", protocol = "icmp", bidirectional = true }
  }
}

resource "anklume_instance" "web" {
  name              = "pro-web"
  domain            = anklume_domain.pro.name
  image             = var.image
  ipv4_address      = local.web
  delete_protection = false

  depends_on = [anklume_nft_isolation.host] # no packet before the rules
}
