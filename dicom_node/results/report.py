"""x"""


def build_report(context):
    return None
