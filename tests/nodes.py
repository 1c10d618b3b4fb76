"""The ops of a traced function, of those that it calls too."""


def nodes_of(concrete):
    """All `NodeDef`s of a concrete function."""
    graph = concrete.graph.as_graph_def()
    called = (node for f in graph.library.function for node in f.node_def)
    return [*graph.node, *called]


def modes_and_ops(concrete):
    """The modes of its sparse steps, and the types of all its ops."""
    nodes = nodes_of(concrete)
    sparse = [node for node in nodes if "SparseApply" in node.op]
    return {n.attr["mode"].s.decode() for n in sparse}, {node.op for node in nodes}
