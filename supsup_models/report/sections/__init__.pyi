from .accuracy import accuracy_section as accuracy_section
from .confusion import confusion_section as confusion_section
from .density import density_section as density_section
from .pareto import pareto_section as pareto_section
from .recovery import recovery_section as recovery_section
from .setup import commands_section as commands_section
from .setup import configuration_section as configuration_section
from .storage import storage_section as storage_section
