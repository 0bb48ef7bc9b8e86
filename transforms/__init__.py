"""Steps: a pure core of functions and one thin PTransform each; sources and sinks."""
