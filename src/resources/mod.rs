//! One noun each: model and schema, plan rules, create, read, update, delete.
