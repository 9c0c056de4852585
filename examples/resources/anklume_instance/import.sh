tofu import anklume_instance.web pro/pro-web
