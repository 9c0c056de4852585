tofu import anklume_profile.small pro/small
