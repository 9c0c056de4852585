resource "anklume_domain" "pro" {
  name = "pro"
}

resource "anklume_volume" "data" {
  name   = "data"
  domain = anklume_domain.pro.name
  size   = "64MiB"

  snapshots_schedule = "@daily"
  snapshots_expiry   = "7d"

  # Protected when unset: false lets `tofu destroy` take the data away.
  delete_protection = false
}

# A copy of it, made once.
resource "anklume_volume" "copy" {
  name              = "copy"
  domain            = anklume_domain.pro.name
  source            = { volume = anklume_volume.data.name }
  delete_protection = false
}
