# the table; the apply after it writes its rules anew
tofu import anklume_nft_isolation.host "inet anklume"
