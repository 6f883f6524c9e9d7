"""VBench's dimensions of what is in the frames: object_class, multiple_objects, color, spatial_relationship, all seen by GRiT."""
