"""The use of object queries over a data set: counted, drawn, and explained."""
