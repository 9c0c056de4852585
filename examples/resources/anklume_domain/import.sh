tofu import anklume_domain.pro pro
