"""From a broker into the ledger: the usage of many hosts, each event once."""

from .ingester import Ingester
from .progress import PartitionProgress, Progress
from .topic import TopicReader

__all__ = ["Ingester", "PartitionProgress", "Progress", "TopicReader"]
