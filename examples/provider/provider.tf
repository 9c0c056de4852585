terraform {
  required_providers {
    anklume = {
      source = "anklume/anklume"
    }
  }
}

# The local Incus, as the `incus` command finds it.
provider "anklume" {}
