# What the hub's token may do at Vault:  vault policy write edge-secrets-hub vault.policy.hcl
# Its role needs the policy `default` too.
path "secret/data/team/*" {
  capabilities = ["read"]
}
path "secret/metadata/team/*" {
  capabilities = ["read", "list"]
}
path "database/creds/app" {
  capabilities = ["read"]
}
path "database/roles" {
  capabilities = ["list"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
}
