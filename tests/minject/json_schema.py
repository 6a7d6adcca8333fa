"""As much of JSON Schema as the project's schemas use, with Python's own library only."""

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}
KNOWN = {"$schema", "title", "description", "type", "required", "properties", "items", "enum", "const", "minLength",
         "minimum", "maximum", "$defs", "additionalProperties"}


def faults(value, schema, at="$", root=None):
    """A list of sentences; empty = the value fits. A key that is not described is a fault as well: it was forgotten."""
    root = root or schema
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    out = [f"{at}: the schema uses {k}, which is not understood" for k in schema if k not in KNOWN]
    kind = schema.get("type")
    if kind == "integer":
        if not isinstance(value, int) or isinstance(value, bool):
            return out + [f"{at}: {value!r} is no integer"]
    elif kind and not isinstance(value, TYPES[kind]):
        return out + [f"{at}: {value!r} is no {kind}"]
    if "const" in schema and value != schema["const"]:
        out.append(f"{at}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{at}: {value!r} is none of {schema['enum']}")
    if "minLength" in schema and len(value) < schema["minLength"]:
        out.append(f"{at}: too short")
    if "minimum" in schema and value < schema["minimum"] or "maximum" in schema and value > schema["maximum"]:
        out.append(f"{at}: {value} is out of range")
    if kind == "object":
        out += [f"{at}: {k} is missing" for k in schema.get("required", ()) if k not in value]
        for k, v in value.items():
            if k in schema["properties"]:
                out += faults(v, schema["properties"][k], f"{at}.{k}", root)
            else:
                out.append(f"{at}: {k} is not described")
    if kind == "array":
        for i, v in enumerate(value):
            out += faults(v, schema["items"], f"{at}[{i}]", root)
    return out
