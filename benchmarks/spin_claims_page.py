def write_page(out, table):
    pass
