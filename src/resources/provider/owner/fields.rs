//! The location fields of the backends, as OpenTofu 1.12.6 has them (`internal/backend`): arguments, variables, defaults.
//!
//! A field is left out where another value of it reaches the same state: credentials, encryption, locks, headers, labels,
//! and the subscription or resource group of a storage account, whose name is unique.

/// One location field of a backend.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    /// Paths of the arguments that hold it, the first one set wins.
    pub arguments: Arguments,
    /// Variables that the backend reads where no argument is set, the first one set wins.
    pub variables: &'static [&'static str],
    pub unset: Unset,
    pub form: Form,
}

#[derive(Clone, Copy)]
pub(super) enum Arguments {
    /// The argument of the field's name.
    Named,
    /// These; none for a field that has a variable only.
    At(&'static [&'static str]),
}

/// The meaning of a field that neither an argument nor a variable sets.
#[derive(Clone, Copy)]
pub(super) enum Unset {
    /// The location is not known: it may differ from one directory to the next.
    Unknown,
    /// This value, the same everywhere.
    Default(&'static str),
    /// The public service, or none: the same everywhere.
    Nothing,
}

#[derive(Clone, Copy)]
pub(super) enum Form {
    Text,
    Address,
}

impl Field {
    /// An argument that the backend cannot do without.
    const fn new(name: &'static str) -> Self {
        Self { name, arguments: Arguments::Named, variables: &[], unset: Unset::Unknown, form: Form::Text }
    }

    const fn at(self, paths: &'static [&'static str]) -> Self {
        Self { arguments: Arguments::At(paths), ..self }
    }

    const fn or_variable(self, variables: &'static [&'static str]) -> Self {
        Self { variables, ..self }
    }

    const fn or(self, default: &'static str) -> Self {
        Self { unset: Unset::Default(default), ..self }
    }

    const fn or_nothing(self) -> Self {
        Self { unset: Unset::Nothing, ..self }
    }

    const fn address(self) -> Self {
        Self { form: Form::Address, ..self }
    }
}

/// The location fields of each type. `cloud`, `remote`, `inmem` and the servers of `kubernetes` and `pg` have rules of
/// their own.
pub(super) const TYPES: &[(&str, &[Field])] = &[
    (
        "azurerm",
        &[
            Field::new("storage_account_name"),
            Field::new("container_name"),
            Field::new("key"),
            Field::new("environment").or_variable(&["ARM_ENVIRONMENT"]).or("public"),
            // Terraform reads the second name, too.
            Field::new("metadata_host")
                .or_variable(&["ARM_METADATA_HOST", "ARM_METADATA_HOSTNAME"])
                .or_nothing()
                .address(),
        ],
    ),
    (
        "consul",
        &[
            Field::new("path"),
            Field::new("address").or_variable(&["CONSUL_HTTP_ADDR"]).address(),
            Field::new("datacenter").or_nothing(),
            Field::new("namespace").at(&[]).or_variable(&["CONSUL_NAMESPACE"]).or_nothing(),
            Field::new("partition").at(&[]).or_variable(&["CONSUL_PARTITION"]).or_nothing(),
        ],
    ),
    (
        "cos",
        &[
            Field::new("bucket"),
            Field::new("region").or_variable(&["TENCENTCLOUD_REGION"]),
            Field::new("prefix").or_nothing(),
            Field::new("key").or("terraform.tfstate"),
        ],
    ),
    (
        "gcs",
        &[
            Field::new("bucket"),
            Field::new("prefix").or_nothing(),
            Field::new("storage_custom_endpoint")
                .or_variable(&["GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT", "GOOGLE_STORAGE_CUSTOM_ENDPOINT"])
                .or_nothing()
                .address(),
            Field::new("universe_domain").or_variable(&["GOOGLE_BACKEND_UNIVERSE_DOMAIN"]).or_nothing(),
        ],
    ),
    ("http", &[Field::new("address").or_variable(&["TF_HTTP_ADDRESS"]).address()]),
    (
        "kubernetes",
        &[Field::new("secret_suffix"), Field::new("namespace").or_variable(&["KUBE_NAMESPACE"]).or("default")],
    ),
    ("local", &[Field::new("path").or_nothing(), Field::new("workspace_dir").or_nothing()]),
    (
        "oss",
        &[
            Field::new("bucket"),
            Field::new("prefix").or("env:"),
            Field::new("key").or("terraform.tfstate"),
            // A profile may set it, too.
            Field::new("region").or_variable(&["ALICLOUD_REGION", "ALICLOUD_DEFAULT_REGION"]),
            Field::new("endpoint").or_variable(&["ALICLOUD_OSS_ENDPOINT", "OSS_ENDPOINT"]).or_nothing().address(),
        ],
    ),
    (
        "pg",
        &[
            Field::new("schema_name").or_variable(&["PG_SCHEMA_NAME"]).or("terraform_remote_state"),
            Field::new("table_name").or_variable(&["PG_TABLE_NAME"]).or("states"),
        ],
    ),
    (
        "s3",
        &[
            Field::new("bucket"),
            Field::new("key"),
            Field::new("workspace_key_prefix").or("env:"),
            Field::new("region").or_variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            // The backend reads the first two variables, its SDK the last one.
            Field::new("endpoint")
                .at(&["endpoints.s3", "endpoint"])
                .or_variable(&["AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL"])
                .or_nothing()
                .address(),
        ],
    ),
];
