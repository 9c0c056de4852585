# What volumes of virtual machines are filled with.
variable "token" {
  type      = string
  sensitive = true
}

resource "anklume_domain" "lab" {
  name = "lab"
}

# A disk of a web server, streamed to Incus and kept nowhere on the way; so are the headers.
resource "anklume_volume" "disk" {
  name         = "disk"
  domain       = anklume_domain.lab.name
  content_type = "block"
  source = {
    url     = "https://example.org/disk.raw"
    sha256  = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    headers = { Authorization = "Bearer ${var.token}" }
  }
}

# A disk that several machines may have at once: their software has to agree on who writes.
resource "anklume_volume" "shared" {
  name         = "shared"
  domain       = anklume_domain.lab.name
  content_type = "block"
  size         = "10GiB"
  config       = { "security.shared" = "true" }
}

# An optical disk, and a machine that is installed from it: it starts from the disk with the highest `boot_priority` that
# has something to start, its own empty one after that. Secure boot wants signed media.
resource "anklume_volume" "installer" {
  name         = "installer"
  domain       = anklume_domain.lab.name
  content_type = "iso"
  source       = { file = "installer.iso" }
}

resource "anklume_instance" "machine" {
  name        = "machine"
  domain      = anklume_domain.lab.name
  type        = "vm"
  image       = "images:debian/13"
  secure_boot = false
  wait        = { agent = false }
  volumes     = { installer = { volume = anklume_volume.installer.name, boot_priority = 10 } }
}
