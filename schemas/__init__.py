"""Ground: records in their Proto, Arrow and Avro forms, units and versions; no Beam."""
