resource "anklume_domain" "pro" {
  name        = "pro" # project pro, bridge net-pro
  description = "Paid work"
  trust_level = "trusted" # 10.110.<lowest free>.0/24

  config = {
    "limits.instances" = "20"
  }
}
