variable "image" {
  description = "Alias or fingerprint of an image, or an image server's name, a colon and an alias."
  type        = string
  default     = "images:debian/13"
}

resource "anklume_domain" "pro" {
  name        = "pro"
  trust_level = "trusted"
  subnet_id   = 4
}

resource "anklume_instance" "web" {
  name         = "pro-web"
  domain       = anklume_domain.pro.name
  image        = var.image
  ipv4_address = "10.110.4.10"

  config = {
    "limits.memory" = "256MiB"
  }

  delete_protection = false
}

output "address" {
  value = anklume_instance.web.ipv4_address
}
