# <domain>/<pool>/<name>
tofu import anklume_volume.data pro/default/data
