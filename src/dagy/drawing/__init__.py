"""A flow's graph for people: as a tree, as Mermaid or Graphviz source, as a picture.

Pure: a FlowSpec goes in, lines come out. Nothing recurses, and the work grows with the graph's task runs and edges, so
long chains and wide fans are drawn, too.
"""
