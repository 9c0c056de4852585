resource "anklume_domain" "pro" {
  name = "pro"
}

resource "anklume_profile" "small" {
  name   = "small"
  domain = anklume_domain.pro.name

  config = {
    "limits.cpu"    = "1"
    "limits.memory" = "512MiB"
  }

  # Sensitive: not shown in plans.
  cloud_init = {
    user_data = "#cloud-config\npackage_update: true\n"
  }
}
