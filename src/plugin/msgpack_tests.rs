use super::*;

fn object(members: &[(&str, Type)]) -> Type {
    Type::Object(members.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect())
}

fn map(members: &[(&str, Value)]) -> Value {
    Value::Map(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

#[test]
fn every_kind_of_value_survives_the_wire() {
    let ty = object(&[
        ("name", Type::String),
        ("on", Type::Bool),
        ("size", Type::Number),
        ("tags", Type::set(Type::String)),
        ("nics", Type::map(object(&[("mtu", Type::Number)]))),
        ("any", Type::Dynamic),
        ("absent", Type::String),
    ]);
    let value = map(&[
        ("name", "web".into()),
        ("on", true.into()),
        ("size", Value::Number(Number::parse("123456789012345678901234567890").unwrap())),
        ("tags", vec!["a", "b"].into()),
        ("nics", map(&[("eth0", map(&[("mtu", 1500.into())])), ("eth1", map(&[("mtu", Value::Unknown)]))])),
        ("any", map(&[("list", Value::List(vec![1.into(), "two".into(), Value::Null]))])),
        ("absent", Value::Null),
    ]);
    assert_eq!(decode(&encode(&value, &ty).unwrap(), &ty).unwrap(), value);
}

#[test]
fn any_extension_is_unknown_and_unknown_is_written_without_refinement() {
    assert_eq!(encode(&Value::Unknown, &Type::String).unwrap(), [0xd4, 0, 0]);
    for bytes in [&[0xd4, 0, 0][..], &[0xc7, 3, 12, 0x81, 1, 0xc2], &[0xd6, 9, 1, 2, 3, 4], &[0xc8, 0, 1, 12, 0]] {
        assert_eq!(decode(bytes, &Type::String), Ok(Value::Unknown));
        assert_eq!(decode(bytes, &Type::Dynamic), Ok(Value::Unknown));
    }
}

#[test]
fn a_number_is_read_from_integer_float_and_text() {
    let cases: [(&[u8], &str); 9] = [
        (&[7], "7"),
        (&[0xff], "-1"),
        (&[0xcc, 200], "200"),
        (&[0xd0, 0x80], "-128"),
        (&[0xd1, 0xff, 0x00], "-256"),
        (&[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "18446744073709551615"),
        (&[0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0], "0.5"),
        (&[0xca, 0x3f, 0xc0, 0, 0], "1.5"),
        (&[0xa3, b'0', b'.', b'1'], "0.1"),
    ];
    for (bytes, text) in cases {
        assert_eq!(decode(bytes, &Type::Number), Ok(Value::Number(Number::parse(text).unwrap())), "{text}");
    }
    assert_eq!(encode(&Value::Number(Number::parse("0.1").unwrap()), &Type::Number).unwrap(), b"\xa30.1");
    assert!(decode(b"\xa3abc", &Type::Number).is_err());
}

#[test]
fn objects_carry_every_attribute_and_no_other() {
    let ty = object(&[("a", Type::String), ("b", Type::String)]);
    let bytes = encode(&map(&[("a", "x".into())]), &ty).unwrap();
    assert_eq!(bytes[0], 0x82);
    assert_eq!(decode(&bytes, &ty).unwrap(), map(&[("a", "x".into()), ("b", Value::Null)]));
    let error = encode(&map(&[("c", "x".into())]), &ty).unwrap_err();
    assert_eq!(error, WireError::Undeclared(Path::from("c")));
    assert_eq!(decode(b"\x81\xa1c\xa1x", &ty), Err(WireError::Undeclared(Path::from("c"))));
}

#[test]
fn a_dynamic_value_carries_its_type() {
    let bytes = encode(&"x".into(), &Type::Dynamic).unwrap();
    assert_eq!(bytes, b"\x92\xc4\x08\"string\"\xa1x");
    let typed = b"\x92\xc4\x11[\"list\",\"number\"]\x92\x01\x02";
    assert_eq!(decode(typed, &Type::Dynamic), Ok(Value::List(vec![1.into(), 2.into()])));
    assert_eq!(encode(&Value::Null, &Type::Dynamic).unwrap(), [0xc0]);
}

#[test]
fn null_is_not_empty() {
    let ty = Type::list(Type::String);
    assert_eq!(decode(&encode(&Value::Null, &ty).unwrap(), &ty), Ok(Value::Null));
    assert_eq!(decode(&encode(&Value::List(vec![]), &ty).unwrap(), &ty), Ok(Value::List(vec![])));
}

#[test]
fn truncated_input_is_an_error_at_every_length() {
    let ty = object(&[("name", Type::String), ("tags", Type::list(Type::Number)), ("any", Type::Dynamic)]);
    let value = map(&[
        ("name", "a longer name that is more than thirty-one bytes".into()),
        ("tags", vec![1, 70000, -5].into()),
        ("any", vec!["x"].into()),
    ]);
    let bytes = encode(&value, &ty).unwrap();
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end], &ty), Err(WireError::Truncated), "{end}");
    }
}

#[test]
fn an_announced_length_allocates_nothing() {
    for bytes in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xdb, 0xff, 0xff, 0xff, 0xff]]
    {
        for ty in [Type::list(Type::String), Type::map(Type::String), Type::String, Type::Number] {
            assert!(decode(bytes, &ty).is_err());
        }
    }
    assert!(decode(&[0xc9, 0xff, 0xff, 0xff, 0xff, 0], &Type::String).is_err());
}

#[test]
fn a_dynamic_type_nested_too_deep_is_an_error() {
    let json = format!("{}\"string\"{}", "[\"list\",".repeat(5000), "]".repeat(5000));
    let mut bytes = vec![0x92];
    rmp::encode::write_bin(&mut bytes, json.as_bytes()).unwrap();
    bytes.push(0x90);
    assert_eq!(decode(&bytes, &Type::Dynamic), Err(WireError::BadType(Path::root())));
}

#[test]
fn a_dynamic_inside_a_dynamic_cannot_exhaust_the_stack() {
    let mut bytes = Vec::new();
    for _ in 0..1_000_000 {
        bytes.extend(b"\x92\xc4\x09\"dynamic\"");
    }
    assert!(decode(&bytes, &Type::Dynamic).is_err());
}

#[test]
fn bytes_after_the_value_are_an_error() {
    assert_eq!(decode(&[0xc0, 0xc0], &Type::String), Err(WireError::Trailing));
}
